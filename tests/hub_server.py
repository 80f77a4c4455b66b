"""A local server that speaks the protocol of the Hugging Face hub to its client: lists, metadata, redirects, ranges."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT, OLDER = "c0ffee" * 6 + "abcd", "0dd" * 13 + "e"


class Hub:
    """Repositories {owner/name: {file: bytes}} behind `endpoint`; `requests` logs what the client asked for.

    gated, private: repositories that answer 403 and 401. lies: {file: the sha256 that is announced}. cut: {file: bytes
    after which the connection breaks, once}.
    """

    def __init__(self, repositories):
        self.repositories, self.requests = repositories, []
        self.gated, self.private, self.lies, self.cut = set(), set(), {}, {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_HEAD(self):
                hub.answer(self, body=False)

            def do_GET(self):
                hub.answer(self, body=True)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        self.cdn = f"http://localhost:{self.server.server_port}"  # another host, to which the client is redirected

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request, body):
        path, ranged = request.path.split("?")[0].strip("/"), request.headers.get("Range")
        self.requests.append((request.command, path, ranged))
        parts = path.split("/")
        if parts[0] == "cdn":
            return self.blob(request, parts[1], parts[2], body, ranged)
        if len(parts) < 5:
            return self.reply(request, 404, {}, b"{}")
        owner_name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        files, revision = self.repositories.get(owner_name), parts[5 if parts[0] == "api" else 3]
        commit, refused = OLDER if revision in ("v1", OLDER) else COMMIT, None
        if owner_name in self.gated:
            refused = 403, "GatedRepo"
        elif files is None or owner_name in self.private:
            refused = 401 if files else 404, "RepoNotFound"
        elif revision not in ("main", "v1", COMMIT, OLDER):
            refused = 404, "RevisionNotFound"
        elif parts[0] != "api" and parts[4] not in files:
            refused = 404, "EntryNotFound"
        if refused:
            headers = {"X-Error-Code": refused[1], "X-Repo-Commit": commit} if refused[1] else {}
            return self.reply(request, refused[0], headers, b'{"error": "Invalid username or password."}')
        if parts[0] == "api":
            listed = {"id": owner_name, "sha": commit, "siblings": [{"rfilename": name} for name in sorted(files)]}
            return self.reply(request, 200, {}, json.dumps(listed).encode())
        sha256 = self.lies.get(parts[4]) or hashlib.sha256(files[parts[4]]).hexdigest()
        headers = {
            "X-Repo-Commit": commit, "X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(files[parts[4]])),
            "Location": f"{self.cdn}/cdn/{owner_name.replace('/', '--')}/{parts[4]}",
        }
        return self.reply(request, 302, headers, b"")

    def blob(self, request, owner_name, name, body, ranged):
        content = self.repositories[owner_name.replace("--", "/")][name]
        start = int(ranged.removeprefix("bytes=").split("-")[0]) if ranged else 0
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if ranged else {}
        stop = self.cut.pop(name, None) if body else None
        if stop is None:
            return self.reply(request, 206 if ranged else 200, headers, content[start:], body)
        self.reply(request, 200, {}, content[:stop], announced=len(content))
        request.close_connection = True
        return request.connection.close()

    def reply(self, request, status, headers, content, body=True, announced=None):
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(announced or len(content))}.items():
            request.send_header(name, value)
        request.end_headers()
        if body and request.command == "GET":
            request.wfile.write(content)
            request.wfile.flush()
