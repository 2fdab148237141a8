"""What people and the CRM call: the quotes API. Also the clock that lets quotes expire."""
