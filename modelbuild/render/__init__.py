"""What people read: reports and package documents, rendered from values. Nothing here reads or writes a file."""
