"""Every interval and every verdict is made here."""
