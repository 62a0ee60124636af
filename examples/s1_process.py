import time

from procoro import Process


def work(n):
    time.sleep(2)
    print('process', n)


for i in range(10):
    p = Process(target=work, args=(i,))
    p.start()
