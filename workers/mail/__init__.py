"""Mail to sellers: addresses, letters and the SMTP side of the notifications worker."""
