from procoro import Lock, Process


def work(lock, i):
    lock.acquire()
    print('line', i, 'of 100:', '=' * 40, i, 'ends')
    lock.release()


lock = Lock()
for i in range(100):
    Process(target=work, args=(lock, i)).start()
