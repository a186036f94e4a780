"""Checks of claims that only one paper makes; what applies to any method is in `harness/claims/checks/`.

They are named by `_target_` in `configs/claim/<method>.yaml` and run by `heed claims`.
"""
