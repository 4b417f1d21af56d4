"""What talks to a server: connections, tries, requests, files sent and fetched."""
