"""A command client of the simplest kind: sends each command without a
newline, reads four bytes as a native integer and then calls recv once for
that many bytes. Arguments: PORT COMMAND..."""
import socket
import struct
import sys

with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=30) as sock:
    for command in sys.argv[2:]:
        sock.send(command.encode())
        (length,) = struct.unpack("i", sock.recv(4))
        output = sock.recv(length) if length else b""
        assert len(output) == length, f"{len(output)} of {length} bytes came with one recv"
        print(length, output.decode(), end="", flush=True)
