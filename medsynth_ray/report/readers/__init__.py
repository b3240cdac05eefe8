"""The reader study: blinded packets for people, what they answered, and the section of the report about it."""
