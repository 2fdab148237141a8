"""What people and the CRM call: the quotes API, the quote's page and Check out. Also the clock that lets quotes expire."""
