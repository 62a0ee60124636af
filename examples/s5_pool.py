import os
import time

from procoro import Pool


def son(i):
    print('son', i, 'begins in process', os.getpid())
    time.sleep(2)
    print('son', i, 'ends')
    return i + 100


def Back(x):
    print('Back got', x, 'in process', os.getpid())


print('parent is process', os.getpid())
pool = Pool(processes=3)
for i in range(10):
    pool.apply_async(son, (i,), callback=Back)
    # pool.apply(son, (i,)) would be the serial way: one after the other
pool.close()
pool.join()
print('all sons are done')
