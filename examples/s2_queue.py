from procoro import Process, Queue


def child(q):
    q.put('雪芙')


q = Queue()
p = Process(target=child, args=(q,))
p.start()
print(q.get())
p.join()
