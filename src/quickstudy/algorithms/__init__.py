"""The methods: one method, one file."""
