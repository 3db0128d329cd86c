import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster.hosts import BOOT_ID, SHARED, Host, Network, hosts, missing

REACH = "import socket, sys; socket.create_connection((sys.argv[1], 7000), timeout=1).close()"
LISTEN = (
    "import socket; s = socket.create_server(('', 7000)); print('listening', flush=True); [s.accept() for _ in '12']"
)


def boot_id(host: Host) -> str:
    return host.run("cat", BOOT_ID).stdout


@pytest.fixture
def network(tmp_path) -> Iterator[Network]:
    if reason := missing():
        pytest.skip(reason)
    with hosts(tmp_path) as network:
        yield network


def test_each_host_has_its_own_name_address_and_processes(network):
    one, two = network.host("one"), network.host("two")
    assert one.address != two.address
    assert len({boot_id(one), boot_id(two), Path(BOOT_ID).read_text()}) == 3
    assert [host.run("hostname").stdout.strip() for host in (one, two)] == ["one", "two"] != socket.gethostname()
    assert one.run("sh", "-c", "echo ~root").stdout.strip() == str(one.home) != str(two.home)
    assert one.run("ps", "-e", "-o", "comm=").stdout.split() == ["cat", "ps"]


@pytest.mark.slow
def test_hosts_reach_each_other_until_one_is_unplugged(network):
    one, two = network.host("one"), network.host("two")
    listener = two.start("python", "-c", LISTEN, stdout=subprocess.PIPE)
    assert listener.stdout.readline() == "listening\n"
    before = two.received_bytes
    one.run("python", "-c", REACH, "two")
    assert two.received_bytes > before
    network.unplug("two")
    with pytest.raises(OSError, match=r"(?s)on one: exit code 1: .*(timed out|No route)"):
        one.run("python", "-c", REACH, two.address)


def test_all_processes_of_a_host_die_with_it_and_its_disk_stays(network):
    host = network.host("one")
    host.run("sh", "-c", f"setsid sleep 98765 > /dev/null 2>&1 & echo kept > ~/file; echo kept > {SHARED}/file")
    asleep = [each for each in psutil.process_iter(["cmdline"]) if (each.info["cmdline"] or [])[-1:] == ["98765"]]
    assert len(asleep) == 1
    boot_of_before = boot_id(host)
    host.power_off()
    assert not asleep[0].is_running()
    again = network.host("one")
    assert again.address == host.address
    assert boot_id(again) != boot_of_before
    assert again.run("sh", "-c", f"cat ~/file {SHARED}/file").stdout.split() == ["kept", "kept"]


def test_a_command_that_fails_says_where_and_why(network):
    with pytest.raises(OSError, match=r"(?s)ls /nowhere on one: exit code 2: .*cannot access"):
        network.host("one").run("ls", "/nowhere")
