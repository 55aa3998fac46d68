"""A kubectl that has no cluster: it writes down what it is asked, and runs pods by runc on nodes that are a lab's.

In: NETPATH_CLUSTER, a folder with nodes.json (each node's network namespace; null for one that cannot pull images) and netpath.
Out: asked, a line of JSON for each call; what runc answers.
"""

import json
import os
import platform
import shutil
import subprocess
import sys

import kubernetes_validate
import yaml

CLUSTER = os.environ["NETPATH_CLUSTER"]
NODES = json.load(open(f"{CLUSTER}/nodes.json"))


def runc(*arguments):
    return ["runc", "--root", f"{CLUSTER}/runc", *arguments]


def fail(text, status=1):
    print(text, file=sys.stderr)
    sys.exit(status)


def create(pod):
    for version in kubernetes_validate.utils.all_versions()[0], kubernetes_validate.latest_version():
        kubernetes_validate.validate(pod, version, strict=True)
    name, spec = pod["metadata"]["name"], pod["spec"]
    json.dump(pod, open(f"{CLUSTER}/{name}.json", "w"))
    if not (namespace := NODES[spec["nodeName"]]):
        return
    container = spec["containers"][0]
    security = container["securityContext"]
    bundle = f"{CLUSTER}/{name}"
    for folder in "proc", "sys", "dev", "bin", "netpath-binary":
        os.makedirs(f"{bundle}/rootfs/{folder}")
    os.makedirs(f"{bundle}/empty")
    if container["image"].startswith("busybox"):
        shutil.copy("/usr/bin/busybox", f"{bundle}/rootfs/bin/busybox")
        for link in "sh", "cat", "chmod", "wc":
            os.symlink("busybox", f"{bundle}/rootfs/bin/{link}")
    else:
        shutil.copy(f"{CLUSTER}/netpath", f"{bundle}/rootfs/netpath")
    assert security["capabilities"]["drop"] == ["ALL"] and not security["privileged"]
    rights = [f"CAP_{right}" for right in security["capabilities"]["add"]]
    assert spec["hostNetwork"] and spec["hostPID"] and container["stdin"]
    environment = [f"{variable['name']}={variable['value']}" for variable in container["env"]]
    mount = lambda at, kind, source, *options: {"destination": at, "type": kind, "source": source, "options": options}
    config = {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": security["runAsUser"], "gid": security["runAsGroup"]},
            "args": container["command"],
            # The lab's ENIs are veths, and nobody answers there.
            "env": ["PATH=/bin", "NETPATH_OFFLINE=1", *environment],
            "cwd": "/",
            "capabilities": {"bounding": rights, "effective": rights, "permitted": rights},
            "noNewPrivileges": not security["allowPrivilegeEscalation"],
        },
        "root": {"path": "rootfs", "readonly": security["readOnlyRootFilesystem"]},
        "mounts": [
            mount("/proc", "proc", "proc"),
            mount("/dev", "tmpfs", "tmpfs", "nosuid", "mode=755"),
            mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
            mount("/netpath-binary", "bind", f"{bundle}/empty", "rbind", "rw"),
        ],
        "linux": {
            "namespaces": [{"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network", "path": namespace}],
            "cgroupsPath": f"/{name}",
        },
    }
    json.dump(config, open(f"{bundle}/config.json", "w"))
    os.mkfifo(f"{bundle}/stdin")
    stdin = os.open(f"{bundle}/stdin", os.O_RDWR)
    log = open(f"{bundle}/log", "w")
    subprocess.run(runc("run", "--detach", "--bundle", bundle, name), stdin=stdin, stdout=log, stderr=log, check=True)


def main():
    asked = sys.argv[1:]
    with open(f"{CLUSTER}/asked", "a") as log:
        log.write(json.dumps(asked) + "\n")
    while asked and asked[0].startswith("-"):
        asked = asked[1 if "=" in asked[0] else 2 :]
    match asked:
        case ["get", "node", name, *_]:
            if name not in NODES:
                fail(f'Error from server (NotFound): nodes "{name}" not found')
            print("linux/" + {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()], end="")
        case ["get", "nodes", *_]:
            print("\n".join(NODES))
        case ["create", "-f", file]:
            create(yaml.safe_load(open(file)))
        case ["get", "pod", name, *_]:
            pod = json.load(open(f"{CLUSTER}/{name}.json"))
            print("Running||  " if NODES[pod["spec"]["nodeName"]] else "Pending|ImagePullBackOff|no such image  ", end="")
        case ["delete", "pod", name, *_]:
            if os.path.exists(f"{CLUSTER}/{name}"):
                subprocess.run(runc("delete", "--force", name), check=True)
            os.remove(f"{CLUSTER}/{name}.json")
        case ["exec", "-i", name, "-c", "netpath", "--", *command]:
            ended = subprocess.run(runc("exec", name, *command))
            if ended.returncode:
                fail(f"command terminated with exit code {ended.returncode}", ended.returncode)
        case _:
            fail(f"kubectl is not asked so: {asked}")


main()
