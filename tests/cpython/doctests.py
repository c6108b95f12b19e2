# exit: 1
# args: 10
# modes: default warm eager
# doctest: examples that hold, that fail, that raise, with options, in functions, classes, generators and a module's text.
"""
>>> sum(i * i for i in range(1000))
332833500
>>> for i in range(3):
...     print(i, end=" ")
0 1 2
>>> 1 / 0
Traceback (most recent call last):
    ...
ZeroDivisionError: division by zero
>>> list(range(100))  # doctest: +ELLIPSIS
[0, 1, ..., 98, 99]
>>> print("a  b \\t c")  # doctest: +NORMALIZE_WHITESPACE
a b c
>>> undefined_name
1
"""
import doctest
import sys


def collatz(n):
    """The length of a Collatz chain.

    >>> [collatz(n) for n in range(1, 12)]
    [1, 2, 8, 3, 6, 9, 17, 4, 20, 7, 15]
    >>> max(range(1, 500), key=collatz)
    327
    >>> collatz(0)
    Traceback (most recent call last):
    ValueError: 0 has none
    >>> collatz(27)
    111
    """
    if n < 1:
        raise ValueError(f"{n} has none")
    steps = 1
    while n != 1:
        n = 3 * n + 1 if n % 2 else n // 2
        steps += 1
    return steps


class Stack:
    """
    >>> s = Stack()
    >>> for i in range(300):
    ...     s.push(i)
    >>> s.pop(), len(s.items)
    (299, 299)
    """

    def __init__(self):
        self.items = []

    def push(self, item):
        """
        >>> Stack().push(1)
        """
        self.items.append(item)

    def pop(self):
        """
        >>> Stack().pop()
        Traceback (most recent call last):
        IndexError: pop from an empty list
        """
        return self.items.pop()


def words():
    """
    >>> list(words())
    ['many', 'lines']
    >>> next(words())  # doctest: +SKIP
    'never run'
    >>> print(*words(), sep="\\n\\n")
    many
    <BLANKLINE>
    lines
    """
    yield "many"
    yield "lines"


for _ in range(int(sys.argv[1])):
    found = doctest.testmod(verbose=False)
    print(found, file=sys.stderr)
doctest.run_docstring_examples(collatz, globals(), name="again", optionflags=doctest.REPORT_NDIFF)
print(doctest.testmod(optionflags=doctest.REPORT_UDIFF | doctest.FAIL_FAST))
sys.exit(1 if found.failed else 0)
