"""What commands share: their options, and how options are turned into settings, images and
reports."""
