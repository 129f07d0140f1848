"""One file per figure: tables in, PDF, PNG and CSV out."""
