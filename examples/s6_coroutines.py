from procoro import joinall, sleep, spawn


def run1():
    print("run1")
    sleep(2)
    print("back1")


def run2():
    print("run2")
    sleep(1)
    print("back2")


def run3():
    print("run3")
    sleep(0)
    print("back3")


joinall([spawn(run1), spawn(run2), spawn(run3)])
