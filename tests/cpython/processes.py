# fork, subprocesses, pools and exits in programs that have traces. The threads of a pool ask for the GIL while another one is stepped.
# modes: default hot eager rest
import multiprocessing
import os
import subprocess
import sys


def work(n):
    s = 0
    for i in range(n):
        s += i * i % 7
    return s


def main():
    print(work(40000), flush=True)
    for k in range(3):
        pid = os.fork()
        if pid == 0:
            os._exit(work(30000 + k) % 200)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), work(30000), flush=True)
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            print(method, pool.map(work, [20000, 30000, 40000]), flush=True)
    code = "s = 0\nfor i in range(200000):\n    s += i\nprint(s)\nraise SystemExit(7)"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE)
    print(done.returncode, done.stdout, work(20000), flush=True)
    for ending in ("import os; os._exit(3)", "import os; os.abort()", "import sys; sys.exit('bye')", "1/0",
                   "import os; os.execv('/bin/echo', ['echo', 'execed'])", "import faulthandler, ctypes; faulthandler.enable(); ctypes.string_at(0)"):
        loop = "i = 0\nwhile i < 100000:\n    i += 1\n"
        done = subprocess.run([sys.executable, "-c", loop + ending], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        print(done.returncode, done.stdout, done.stderr.splitlines()[-1:], flush=True)


if __name__ == "__main__":
    main()
