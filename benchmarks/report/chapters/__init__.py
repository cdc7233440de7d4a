"""The chapters of a report, a file per subject: which figures and tables stand in each section, and what is said where one is absent."""
