"""Work in this process, where a run is too small for workers."""

from unite.drivers.session import InProcess


def test_this_process_does_the_work_in_order_with_one_worker():
    done, made, told = [], [], []
    here = InProcess(lambda: made.append(1) or done.append)
    here.run([3, 1, 2], told.append)
    here.run([4], told.append)
    assert done == told == [3, 1, 2, 4]
    assert made == [1]
    here.close()
    here.run([5], told.append)
    assert made == [1, 1]
