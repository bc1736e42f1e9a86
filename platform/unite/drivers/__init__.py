"""The work of each job, from check to result: train, evaluate, sweep, prepare, schedule.

Ray is reached through the functions of `unite.cluster`, which load it when they are called.
"""
