"""A FAKE issuer of identities: discovery, keys, a job's tokens, codes for devices, and logins with PKCE.

It is strict: what a request lacks is refused. Prints its port; everybody who logs in is anna.
"""
import base64, hashlib, http.server, json, subprocess, sys, time, urllib.parse

KEY, AUDIENCE = sys.argv[1], sys.argv[2]
CLIENT = "havre-cli"
asked, codes, serial = {"device": 0}, {}, 0


def text(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def openssl(*words, data=b""):
    return subprocess.run(["openssl", *words], input=data, capture_output=True, check=True).stdout


def token(**more):
    global serial
    serial += 1
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "anna", "iat": now, "exp": now + 300, "jti": str(serial), **more}
    head = {"alg": "RS256", "kid": "one", "typ": "JWT"}
    signed = ".".join(text(json.dumps(part).encode()) for part in (head, claims))
    return signed + "." + text(openssl("dgst", "-sha256", "-sign", KEY, data=signed.encode()))


class Issuer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, document, **heads):
        body = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(body), **heads}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        path, _, query = self.path.partition("?")
        fields = dict(urllib.parse.parse_qsl(query))
        if path == "/.well-known/openid-configuration":
            ends = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/keys",
                    "device_authorization_endpoint": "/device"}
            self.answer(200, {"issuer": ISSUER, **{name: ISSUER + end for name, end in ends.items()}})
        elif path == "/keys":
            modulus = openssl("rsa", "-in", KEY, "-noout", "-modulus").decode().strip().split("=")[1]
            key = {"kty": "RSA", "kid": "one", "alg": "RS256", "use": "sig", "e": "AQAB"}
            self.answer(200, {"keys": [{**key, "n": text(bytes.fromhex(modulus))}]})
        elif path == "/job":
            if self.headers["Authorization"] != "Bearer of-the-runner" or fields.get("audience") != AUDIENCE:
                return self.answer(403, {"error": "forbidden"})
            self.answer(200, {"value": token()})
        elif path == "/authorize":
            wanted = {"response_type": "code", "client_id": CLIENT, "code_challenge_method": "S256", "scope": "openid"}
            if any(fields.get(name) != value for name, value in wanted.items()) or not fields.get("nonce"):
                return self.answer(400, {"error": "invalid_request"})
            codes["the-code"] = fields
            back = urllib.parse.urlencode({"code": "the-code", "state": fields["state"]})
            self.answer(302, {}, Location=fields["redirect_uri"] + "?" + back)
        else:
            self.answer(404, {"error": "not_found"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        fields = dict(urllib.parse.parse_qsl(body))
        if fields.get("client_id") != CLIENT:
            return self.answer(401, {"error": "invalid_client"})
        if self.path == "/device":
            return self.answer(200, {"device_code": "secret", "user_code": "ABCD-EFGH", "interval": 1,
                                     "verification_uri": ISSUER + "/typed", "expires_in": 60})
        grant = fields.get("grant_type")
        if grant == "urn:ietf:params:oauth:grant-type:device_code" and fields.get("device_code") == "secret":
            asked["device"] += 1
            if asked["device"] == 1:
                return self.answer(400, {"error": "authorization_pending"})
            return self.answer(200, {"id_token": token(), "token_type": "Bearer", "access_token": "x"})
        if grant == "authorization_code" and fields.get("code") in codes:
            begun = codes.pop(fields["code"])
            proof = text(hashlib.sha256(fields.get("code_verifier", "").encode()).digest())
            if begun["code_challenge"] == proof and begun["redirect_uri"] == fields.get("redirect_uri"):
                return self.answer(200, {"id_token": token(nonce=begun["nonce"])})
        self.answer(400, {"error": "invalid_grant", "error_description": "nobody has begun that"})


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Issuer)
ISSUER = f"http://127.0.0.1:{server.server_port}"
print(server.server_port, flush=True)
server.serve_forever()
