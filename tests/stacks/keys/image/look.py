"""Says how it was started and what it sees, a fact a line.

serve …       goes on, and tells whoever asks at port 8000 how it was started; echoes datagrams at 5353
show          asks the one that serves here
resolve NAME  addresses of a name
reach HOST    whether port 8000 of a host answers
"""

import os
import re
import signal
import socket
import stat
import sys
import threading
import time
from pathlib import Path

LIMITS = {
    "Max open files": "nofile",
    "Max processes": "nproc",
    "Max core file size": "core",
    "Max locked memory": "memlock",
}
SYSCTLS = ["net.core.somaxconn", "net.ipv4.ip_local_port_range", "kernel.shmmax"]


def read(path, default=""):
    try:
        return Path(path).read_text().strip()
    except OSError:
        return default


def status():
    lines = (line.split(":", 1) for line in read("/proc/self/status").splitlines())
    return {name: value.split() for name, value in lines}


def cgroup():
    base = "/sys/fs/cgroup"
    quota, period = (read(f"{base}/cpu.max") or " ".join(
        [read(f"{base}/cpu/cpu.cfs_quota_us"), read(f"{base}/cpu/cpu.cfs_period_us")]
    )).split()[:2]
    yield "cgroup.cpus", "all" if quota in ("max", "-1") else f"{int(quota) / int(period):g}"
    yield "cgroup.memory", read(f"{base}/memory.max") or read(f"{base}/memory/memory.limit_in_bytes")
    low = read(f"{base}/memory.low") or read(f"{base}/memory/memory.soft_limit_in_bytes")
    yield "cgroup.memory-low", low
    yield "cgroup.pids", read(f"{base}/pids.max") or read(f"{base}/pids/pids.max")


def mounts():
    for line in read("/proc/self/mountinfo").splitlines():
        left, right = line.split(" - ")
        target, options = left.split()[4:6]
        kind, _, super_options = right.split()[:3]
        mode = "ro" if "ro" in options.split(",") else "rw"
        size = re.search(r"size=(\w+)", super_options)
        yield f"mount.{target}", " ".join([kind, mode] + ([size[0]] if kind == "tmpfs" and size else []))


def file(path):
    try:
        # Secrets and configs are links that a new version moves; what counts is what they lead to.
        found = os.stat(path) if path.startswith("/run/secrets/") else os.lstat(path)
    except OSError:
        return "missing"
    kind = "link" if stat.S_ISLNK(found.st_mode) else f"{stat.S_IMODE(found.st_mode):04o}"
    content = read(path).splitlines() if os.path.isfile(path) else []
    return " ".join([kind, f"{found.st_uid}:{found.st_gid}"] + content[:1])


def may_write(path):
    try:
        probe = os.path.join(path, "probe")
        Path(probe).write_text("x")
        os.unlink(probe)
    except OSError:
        return "no"
    return "yes"


def facts():
    known = status()
    yield "argv", " ".join(sys.argv[1:])
    yield "cwd", os.getcwd()
    yield "user", f"{os.getuid()}:{os.getgid()}"
    yield "groups", " ".join(sorted(set(known["Groups"]), key=int))
    yield "hostname", socket.gethostname()
    yield "process-1", read("/proc/1/comm")
    yield "capabilities", known["CapEff"][0]
    yield "bounding", known["CapBnd"][0]
    yield "no-new-privileges", known["NoNewPrivs"][0]
    yield "seccomp", known["Seccomp"][0]
    yield "terminal", "yes" if os.isatty(0) and os.isatty(1) else "no"
    yield "stdin", os.path.basename(os.readlink("/proc/self/fd/0")).split(":")[0]
    yield "links", " ".join(sorted(os.listdir("/sys/class/net")))
    for name, value in os.environ.items():
        yield f"env.{name}", value.replace("\n", "\\n")
    for line in read("/proc/self/limits").splitlines():
        name, *values = re.split(r"  +", line)
        if name in LIMITS:
            yield f"limit.{LIMITS[name]}", " ".join(values[:2])
    for name in SYSCTLS:
        yield f"sysctl.{name}", " ".join(read(f"/proc/sys/{name.replace('.', '/')}").split())
    yield from cgroup()
    yield from mounts()
    for path in os.environ.get("LOOK_AT", "").split():
        yield f"file.{path}", file(path)
        if os.path.isdir(path):
            yield f"writes.{path}", may_write(path)
    for line in read("/etc/resolv.conf").splitlines():
        yield "resolv", re.sub(r"^nameserver .*", "nameserver", line)
    for line in read("/etc/hosts").splitlines():
        yield "hosts", " ".join(line.split())


def note(text):
    """A line of the diary on a volume, where there is one."""
    if os.path.isdir("/diary"):
        with open("/diary/log", "a") as diary:
            diary.write(f"{text}\n")


def serve():
    view = "\n".join(f"{name}={value}" for name, value in facts()).encode()

    def end(number, _):
        time.sleep(float(os.environ.get("TAKES", "0")))
        note(f"{sys.argv[2]} ended by {signal.Signals(number).name}")
        sys.exit(0)

    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, end)
    if "TELL" in os.environ:
        note(f"{sys.argv[2]} began")
        for number in range(4000):
            print(f"{sys.argv[2]} began: line {number:04} of more than is kept", flush=True)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("", 5353))
    threading.Thread(target=echo, args=(datagrams,), daemon=True).start()
    with socket.create_server(("", 8000)) as server:
        while True:
            connection, _ = server.accept()
            connection.settimeout(5)
            try:
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + view)
            except OSError:
                pass


def echo(datagrams):
    while True:
        payload, peer = datagrams.recvfrom(65536)
        datagrams.sendto(b"echo " + payload, peer)


def show(host="127.0.0.1"):
    with socket.create_connection((host, 8000), 5) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        parts = b"".join(iter(lambda: connection.recv(65536), b""))
    return parts.decode().split("\r\n\r\n", 1)[1]


def resolve(name):
    try:
        found = socket.getaddrinfo(name, 8000, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return "unknown"
    return " ".join(sorted({address for *_, (address, _) in found}))


def reach(host):
    try:
        show(host)
    except OSError:
        return "no"
    return "yes"


match sys.argv[1:]:
    case ["serve", *_]:
        serve()
    case ["show"]:
        print(show())
    case ["resolve", name]:
        print(resolve(name))
    case ["reach", host]:
        print(reach(host))
    case ["note", *words]:
        note(" ".join(words + [os.environ[name] for name in ["SAYS"] if name in os.environ]))
    case words:
        sys.exit(f"not known: {words}")
