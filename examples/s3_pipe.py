from procoro import Pipe, Process


def child(conn):
    print('child got:', conn.recv())
    conn.send('hello, parent')
    conn.close()


parent_conn, child_conn = Pipe()
p = Process(target=child, args=(child_conn,))
p.start()
parent_conn.send('hello, child')
print('parent got:', parent_conn.recv())
p.join()
