"""A file client of the simplest kind: puts a file in pieces of 2,048 bytes
and, without an answer, at once asks for it, and for one that is not there.
Arguments: PORT FILE COPY"""
import json
import os
import socket
import struct
import sys


def send(sock, **header):
    text = json.dumps(header).encode()
    sock.send(struct.pack("i", len(text)))
    sock.send(text)


def receive(sock):
    (length,) = struct.unpack("i", sock.recv(4))
    return json.loads(sock.recv(length))


port, path, copy = sys.argv[1:]
name = os.path.basename(path)
with socket.create_connection(("127.0.0.1", int(port)), timeout=30) as sock:
    send(sock, cmd="put", filename=name, filesize=os.path.getsize(path))
    with open(path, "rb") as file:
        while piece := file.read(2048):
            sock.sendall(piece)
    send(sock, cmd="get", filename=name)
    header = receive(sock)
    assert header["isfile"]
    left = header["filesize"]
    with open(copy, "wb") as file:
        while left > 0:
            piece = sock.recv(min(left, 2048))
            assert piece, f"{left} bytes are missing"
            file.write(piece)
            left -= len(piece)
    send(sock, cmd="get", filename="no-" + name)
    print(json.dumps(receive(sock)))
