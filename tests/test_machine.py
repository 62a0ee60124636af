"""Which cgroups' limits hold for a process, and what they leave."""

import pytest

from procoro import machine

pytestmark = pytest.mark.pure

V1 = """
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 {root} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
"""
V2 = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
PLAIN = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,memory\n"


@pytest.mark.parametrize(
    "groups, mounts, folders",
    [
        # v2, nested
        ("0::/user/me/job\n", PLAIN + V2.format(root="/"), ["/user/me/job", "/user/me", "/user", ""]),
        # v2 in a container with a cgroup namespace, and without one
        ("0::/\n", PLAIN + V2.format(root="/"), [""]),
        ("0::/docker/abc/in\n", V2.format(root="/docker/abc"), ["/in", ""]),
        ("0::/docker/abc\n", V2.format(root="/docker/abc"), [""]),
        ("0::/docker/abcd\n", V2.format(root="/docker/abc"), [""]),
        # v1, with other controllers, and beside a v2 that holds none
        ("4:memory:/a/b\n1:cpu,cpuacct:/c\n0::/\n", V1.format(root="/"), ["/memory/a/b", "/memory/a", "/memory"]),
        ("4:memory:/a/b\n0::/\n", V1.format(root="/a") + V2.format(root="/"), ["/memory/b", "/memory", ""]),
        # not mounted, not there
        ("4:memory:/a\n", PLAIN, []),
        ("", V1.format(root="/"), []),
    ],
)
def test_cgroup_folders(groups: str, mounts: str, folders: list[str]) -> None:
    found = machine.cgroup_folders("memory", groups, mounts.lstrip("\n"))
    assert found == [f"/sys/fs/cgroup{folder}" for folder in folders]


def test_a_controller_among_others() -> None:
    found = machine.cgroup_folders("cpu", "1:cpu,cpuacct:/x\n", V1.format(root="/").lstrip("\n"))
    assert found == ["/sys/fs/cgroup/cpu,cpuacct/x", "/sys/fs/cgroup/cpu,cpuacct"]


def test_what_is_left_is_no_more_than_all() -> None:
    left, total = machine.memory_left()
    assert 0 < left < total
