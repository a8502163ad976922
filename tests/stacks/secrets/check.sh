. ../lib.sh
expect '"/run/secrets/password": ["only-for-the-test", "0o444", 0]' fetch /
expect '"/run/tokens/api": ["token-of-the-test", "0o400", 1000]' fetch /
expect '"/etc/motd": ["Welcome to Le Havre.", "0o444", 0]' fetch /
expect '[rules]' fetch /
expect '"MODE": "quiet", "GREETING": "hello Le Havre", "QUOTED": "not $PLACE"' fetch /
expect '"host": ["keeper.example", "192.0.2.10"], "writes": [true, false]' fetch /
