"""The dock that fuses a plate."""
