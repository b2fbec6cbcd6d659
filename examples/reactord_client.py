"""A client of reactord's framed protocol in a few lines: a length, a JSON header, a body.
python3 reactord_client.py HOST PORT TOKEN_FILE exec COMMAND | put LOCAL NAME | get NAME LOCAL | chat ROOM TEXT
"""
import json
import os
import socket
import struct
import sys


class Client:
    def __init__(self, host, port, token_file):
        self.sock = socket.create_connection((host, port))
        self.stream = self.sock.makefile("rb")
        with open(token_file) as file:
            self.call(cmd="hello", version=1, token=file.read().strip())

    def send(self, body=b"", **header):
        text = json.dumps(header | {"size": len(body)}).encode()
        self.sock.sendall(struct.pack("<i", len(text)) + text + body)

    def receive(self):
        header = json.loads(self.stream.read(struct.unpack("<i", self.stream.read(4))[0]))
        if header.get("ok") is False or header.get("event") == "error":
            sys.exit(f"{header['error']}: {header['message']}")
        return header, self.stream.read(header.get("size", 0))

    def call(self, body=b"", **header):
        self.send(body, **header)
        return self.receive()

    def exec(self, command):
        self.call(cmd="exec", id=1, shell=command, stdin=False)
        while (frame := self.receive())[0]["event"] != "exit":
            output = sys.stdout if frame[0]["event"] == "stdout" else sys.stderr
            output.buffer.write(frame[1])
            output.flush()
        return frame[0].get("code", 255)

    def put(self, local, name):
        with open(local, "rb") as file:
            self.call(cmd="put", id=1, path=name, length=os.path.getsize(local), exists="replace")
            while piece := file.read(1 << 18):
                self.send(piece, cmd="data", id=1)
        print(self.call(cmd="end", id=1)[0]["blake3"])

    def get(self, name, local):
        self.call(cmd="get", id=1, path=name)
        with open(local, "wb") as file:
            while (frame := self.receive())[0]["event"] != "end":
                file.write(frame[1])

    def chat(self, room, text):
        self.call(cmd="join", room=room, history=0)
        print(self.call(text.encode(), cmd="say", id=1, room=room)[0]["seq"])


if __name__ == "__main__":
    client = Client(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    sys.exit(getattr(client, sys.argv[4])(*sys.argv[5:]))
