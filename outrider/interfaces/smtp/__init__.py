"""What every listener for SMTP needs: the wire, commands, room for messages, connections. Knows no purpose."""
