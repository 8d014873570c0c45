"""The dock that fuses one stack."""
