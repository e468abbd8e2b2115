"""How it is mended: the steps of SRE and customer, each recorded with its actor."""
