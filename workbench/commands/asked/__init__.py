"""What a command is asked, checked before anything is loaded: names, files, options, addresses. No torch here."""
