"""What commands share: options, and what is done with them."""
