"""The page: files and cameras of visitors, on this machine (`stream-unmask serve`, extra `web`)."""
