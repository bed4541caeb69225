"""What happens to every span between its start and its export: context, marks, price."""
