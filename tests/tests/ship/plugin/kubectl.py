"""A kubectl that has no cluster: it writes down what it is asked, and runs pods by the containerd of nodes that are a lab's.

In: NETPATH_CLUSTER, a folder with nodes.json: by name, process and cgroup of each node's containerd; null for a node that cannot
pull images; a text for one for which the API server refuses pods. Out: asked, a line of JSON for each call; what containers answer.
"""

import json
import os
import platform
import subprocess
import sys
import time

CLUSTER = os.environ["NETPATH_CLUSTER"]
NODES = json.load(open(f"{CLUSTER}/nodes.json"))
# What ctr gives to a container that asks for nothing.
DEFAULT_RIGHTS = """CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL
AUDIT_WRITE""".split()


def ctr(node, *arguments):
    enter = ["nsenter", "--mount", "--net", "--wd=.", "--target", str(NODES[node]["process"])]
    return [*enter, "ctr", "--namespace", "k8s.io", *arguments]


def pod(name):
    return json.load(open(f"{CLUSTER}/{name}.json"))


def fail(text, status=1):
    print(text, file=sys.stderr)
    sys.exit(status)


def validate(pod):
    """Against the oldest schema of Kubernetes' API that there is, and the newest. It takes seconds: once for all pods."""
    if os.path.exists(f"{CLUSTER}/validated"):
        return
    import kubernetes_validate

    for version in kubernetes_validate.utils.all_versions()[0], kubernetes_validate.latest_version():
        kubernetes_validate.validate(pod, version, strict=True)
    open(f"{CLUSTER}/validated", "w").close()


def create(pod):
    validate(pod)
    name, spec = pod["metadata"]["name"], pod["spec"]
    if isinstance(NODES[spec["nodeName"]], str):
        fail(NODES[spec["nodeName"]])
    json.dump(pod, open(f"{CLUSTER}/{name}.json", "w"))
    node = spec["nodeName"]
    if not NODES[node]:
        return
    container = spec["containers"][0]
    security = container["securityContext"]
    assert security["capabilities"]["drop"] == ["ALL"] and not security["privileged"]
    assert not security["allowPrivilegeEscalation"] and security["readOnlyRootFilesystem"]
    assert security["seccompProfile"] == {"type": "RuntimeDefault"} and security["runAsUser"] == 0
    assert spec["hostNetwork"] and spec["hostPID"] and container["stdin"]
    os.mkdir(f"{CLUSTER}/{name}.empty")
    image = container["image"] if "/" in container["image"] else "docker.io/library/" + container["image"]
    assert container["resources"]["limits"] == {"memory": "1Gi"}
    # The lab's ENIs are veths, and nobody answers there.
    environment = ["NETPATH_OFFLINE=1", *(f"{variable['name']}={variable['value']}" for variable in container["env"])]
    run = ["run", "--rm", "--snapshotter=native", f"--cgroup={NODES[node]['cgroup']}/{name}", f"--memory-limit={1 << 30}"]
    run += ["--net-host", f"--with-ns=pid:/proc/{NODES[node]['process']}/ns/pid", "--read-only", "--seccomp"]
    run += [f"--cap-drop=CAP_{right}" for right in DEFAULT_RIGHTS]
    run += [f"--cap-add=CAP_{right}" for right in security["capabilities"]["add"]]
    run += [f"--env={variable}" for variable in environment]
    run += ["--mount", f"type=bind,src={CLUSTER}/{name}.empty,dst=/netpath-binary,options=rbind:rw"]
    os.mkfifo(f"{CLUSTER}/{name}.stdin")
    stdin = os.open(f"{CLUSTER}/{name}.stdin", os.O_RDWR)
    log = open(f"{CLUSTER}/{name}.log", "w")
    command = ctr(node, *run, image, name, *container["command"])
    subprocess.Popen(command, stdin=stdin, stdout=log, stderr=log, start_new_session=True)


def phase(name):
    """The state of a pod, as the plugin asks for it."""
    node = pod(name)["spec"]["nodeName"]
    if not NODES[node]:
        return "Pending|ImagePullBackOff|no such image  "
    tasks = subprocess.run(ctr(node, "tasks", "list"), capture_output=True, text=True, check=True).stdout
    if any(line.split()[::2] == [name, "RUNNING"] for line in tasks.splitlines()):
        return "Running||  "
    log = open(f"{CLUSTER}/{name}.log").read()
    return f"Failed|| Error {log}" if log else "Pending||  "


def delete(name):
    node = pod(name)["spec"]["nodeName"]
    if NODES[node]:
        # What runs it removes it, and it may have ended.
        subprocess.run(ctr(node, "tasks", "kill", "--signal=SIGKILL", name), stderr=subprocess.DEVNULL)
        while subprocess.run(ctr(node, "containers", "info", name), capture_output=True).returncode == 0:
            time.sleep(0.02)
    os.remove(f"{CLUSTER}/{name}.json")


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
            import yaml

            create(yaml.safe_load(open(file)))
        case ["get", "pod", name, *_]:
            print(phase(name), end="")
        case ["delete", "pod", name, *_]:
            delete(name)
        case ["exec", "-i", *words]:
            at = words.index("--")
            *terminal, name, _, _ = words[:at]
            process = ["--exec-id", str(os.getpid()), *terminal, name]
            ended = subprocess.run(ctr(pod(name)["spec"]["nodeName"], "tasks", "exec", *process, *words[at + 1 :]))
            if ended.returncode:
                fail(f"command terminated with exit code {ended.returncode}", ended.returncode)
        case _:
            fail(f"kubectl is not asked so: {asked}")


main()
