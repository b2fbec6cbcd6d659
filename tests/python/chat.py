"""A chat client of the simplest kind: sends each line without its newline,
then waits for one recv. Lines come from the command line, what is received is
printed. Arguments: PORT LINE..."""
import socket
import sys

with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=30) as sock:
    for line in sys.argv[2:]:
        sock.send(line.encode())
        print(sock.recv(1024).decode(), end="", flush=True)
