"""Which system calls a learner's code is refused, as a program for the kernel's filter: classic BPF, by hand.

Namespaces hide files, processes and the network. They do not hide the kernel's keyrings, its log, or a virtual
machine's sockets to its host (vsock); they do not count memory that no process maps. The filter refuses the calls that
lead there, and those by which the filter itself could be walked round: io_uring does a call's work without the call.
All else is allowed. Linux's include/uapi/linux/{seccomp,filter,bpf_common}.h have the numbers used here.
"""

import errno
import platform
import struct

CALLS = {  # name: number on x86_64, on aarch64
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),  # what is left there outlives the sandbox
    "memfd_create": (319, 279), "memfd_secret": (447, 447),  # memory beside the bounded /tmp and /dev/shm
    "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186),
    "unshare": (272, 97), "setns": (308, 268),  # a namespace of one's own is a way to rights of one's own
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438),
    "setpriority": (141, 140), "ioprio_set": (251, 30), "sched_setattr": (314, 274),  # would slow the keeper down
    "sched_setparam": (142, 118), "sched_setscheduler": (144, 119), "sched_setaffinity": (203, 122),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "syslog": (103, 116), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
}  # fmt: skip
SOCKET, CLONE, CLONE3, PRLIMIT = (41, 198), (56, 220), (435, 435), (302, 261)
FAMILIES = (1, 2, 10)  # sockets: AF_UNIX, AF_INET, AF_INET6, which are empty in here; not AF_VSOCK, AF_ALG, …
NAMESPACES = 0x7E020000  # all flags of clone that make a namespace
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, and the kernel's AUDIT_ARCH

LOAD, IF_EQUAL, IF_AT_LEAST, IF_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCH, FIRST_ARGUMENT = 0, 4, 16  # where they stand in struct seccomp_data; of the argument, the lower half
ALLOW, REFUSE = 0x7FFF0000, 0x00050000  # REFUSE | errno


class NoFilter(Exception):
    """This kind of machine is none whose system calls are known here."""


def program(machine: str = platform.machine()) -> bytes:
    """The filter, as bubblewrap's `--seccomp` reads it. Raises NoFilter for a machine other than x86_64 and aarch64."""
    if machine not in MACHINES:
        raise NoFilter(f"the sandbox knows the system calls of {' and '.join(MACHINES)}, not of {machine}")
    column, arch = MACHINES[machine]
    no, unknown = REFUSE | errno.EPERM, REFUSE | errno.ENOSYS
    lines = [(LOAD, 0, 0, ARCH), (IF_EQUAL, 1, 0, arch), (RETURN, 0, 0, no), (LOAD, 0, 0, NUMBER)]
    if machine == "x86_64":  # the other numbering of the same calls, x32
        lines += [(IF_AT_LEAST, 0, 1, 0x40000000), (RETURN, 0, 0, no)]
    for numbers in CALLS.values():
        lines += [(IF_EQUAL, 0, 1, numbers[column]), (RETURN, 0, 0, no)]
    # Its flags are in memory, where no filter sees them; glibc goes on with clone.
    lines += [(IF_EQUAL, 0, 1, CLONE3[column]), (RETURN, 0, 0, unknown)]
    families = [(IF_EQUAL, len(FAMILIES) - i, 0, family) for i, family in enumerate(FAMILIES)]
    lines += _if_called(SOCKET[column], [*families, (RETURN, 0, 0, REFUSE | errno.EAFNOSUPPORT)])
    lines += _if_called(CLONE[column], [(IF_ANY_BIT, 0, 1, NAMESPACES), (RETURN, 0, 0, no)])
    lines += _if_called(PRLIMIT[column], [(IF_EQUAL, 1, 0, 0), (RETURN, 0, 0, no)])  # one's own limits alone
    lines.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def _if_called(number: int, test: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """`test` on the first argument of a call; where it does not return, the call is allowed."""
    return [(IF_EQUAL, 0, len(test) + 2, number), (LOAD, 0, 0, FIRST_ARGUMENT), *test, (RETURN, 0, 0, ALLOW)]
