"""Every interval and every null is made here."""
