# exit: 1
def f(:
    pass
