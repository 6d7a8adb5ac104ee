"""`pypmi init`: everything a fleet needs to be secure from the first start: certificates, accounts, access rules."""
