"""Students that write their reasons, trained by a service or here."""
