"""What a box forbids its programs to ask the kernel for, as a filter for bubblewrap's ``--seccomp``.

Denied are memory that belongs to no process and so to no limit, namespaces of one's own (in which one is root), the
kernel's keyring, and a few parts of the kernel that no exercise needs. Source: seccomp(2), and the kernel's tables
``arch/x86/entry/syscalls/syscall_64.tbl`` and ``include/uapi/asm-generic/unistd.h``.
"""

import errno
import platform
import struct

NUMBERS = {
    "x86_64": {
        "memfd_create": 319, "memfd_secret": 447, "shmget": 29, "semget": 64, "msgget": 68, "vmsplice": 278,
        "unshare": 272, "setns": 308, "mount": 165,
        "add_key": 248, "request_key": 249, "keyctl": 250, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323,
        "io_uring_setup": 425, "ptrace": 101, "clone": 56, "clone3": 435,
    },
    "aarch64": {
        "memfd_create": 279, "memfd_secret": 447, "shmget": 194, "semget": 190, "msgget": 186, "vmsplice": 75,
        "unshare": 97, "setns": 268, "mount": 40,
        "add_key": 217, "request_key": 218, "keyctl": 219, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282,
        "io_uring_setup": 425, "ptrace": 117, "clone": 220, "clone3": 435,
    },
}  # fmt: skip
"""Of system calls, by machine."""

ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""``AUDIT_ARCH_…`` of ``linux/audit.h``."""

NEW_NAMESPACES = 0x7E020000
"""``CLONE_NEWNS | CLONE_NEWCGROUP | … | CLONE_NEWNET`` of ``linux/sched.h``."""

LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000, 0x80000000


def bpf(machine: str | None = None) -> bytes | None:
    """The filter as classic BPF; None for a machine whose numbers are not known here.

    Args:
        machine: such as ``"x86_64"``; None: this one.
    """
    machine = machine or platform.machine()
    if machine not in NUMBERS:
        return None
    numbers = dict(NUMBERS[machine])
    clone, clone3 = numbers.pop("clone"), numbers.pop("clone3")
    denied = REFUSE | errno.EPERM
    program = [
        (LOAD, 0, 0, 4),
        (EQUAL, 1, 0, ARCHITECTURE[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, 0),
        (AT_LEAST, 0, 1, 0x40000000),  # another way to say the same numbers
        (RETURN, 0, 0, denied),
    ]
    for number in numbers.values():
        program += [(EQUAL, 0, 1, number), (RETURN, 0, 0, denied)]
    # clone3's flags lie in memory, which no filter can read: as if it were not there, and everybody takes clone.
    program += [(EQUAL, 0, 1, clone3), (RETURN, 0, 0, REFUSE | errno.ENOSYS)]
    program += [(EQUAL, 0, 3, clone), (LOAD, 0, 0, 16), (ANY_BIT, 0, 1, NEW_NAMESPACES), (RETURN, 0, 0, denied)]
    program += [(RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
