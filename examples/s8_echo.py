from procoro import serve


def handle_request(conn):
    while True:
        data = conn.recv(1024)
        if not data:
            break
        print('got', len(data), 'bytes')
        conn.sendall(data)


serve(handle_request, port=9001, backlog=500)
