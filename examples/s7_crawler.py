import re
import sys
from urllib import request

from procoro import Pool

URLS = ['https://www.python.org/', 'https://pypi.org/', 'https://docs.python.org/3/', 'https://no-such-site.invalid/']


def visit(url):
    print('GET:', url)
    page = request.urlopen(url, timeout=20).read()
    name = re.sub(r'\W+', '-', url).strip('-') + '.html'
    with open(name, 'wb') as file:
        file.write(page)
    print(len(page), 'bytes from', url, 'are in', name)
    return len(page)


pool = Pool(model='greenlets')
pages = [(url, pool.submit(visit, url)) for url in sys.argv[1:] or URLS]
for url, page in pages:
    if page.exception():
        print(url, 'failed:', page.exception())
pool.close()
pool.join()
