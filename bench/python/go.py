"""Random games of Go on a 9 by 9 board: groups and liberties by flood fill."""
import sys

SIZE = 9
EMPTY, BLACK, WHITE = 0, 1, 2


class Random:
    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 1103515245 + 12345) & 0x7FFFFFFF
        return (self.state >> 8) % n


def neighbours(at):
    x, y = at % SIZE, at // SIZE
    out = []
    if x > 0:
        out.append(at - 1)
    if x < SIZE - 1:
        out.append(at + 1)
    if y > 0:
        out.append(at - SIZE)
    if y < SIZE - 1:
        out.append(at + SIZE)
    return out


NEIGHBOURS = [neighbours(at) for at in range(SIZE * SIZE)]


class Board:
    def __init__(self):
        self.cells = [EMPTY] * (SIZE * SIZE)
        self.empty = list(range(SIZE * SIZE))
        self.ko = -1

    def group(self, at):
        """The stones connected to one, and whether they have a liberty."""
        cells = self.cells
        color = cells[at]
        seen = {at}
        todo = [at]
        free = False
        while todo:
            here = todo.pop()
            for n in NEIGHBOURS[here]:
                c = cells[n]
                if c == EMPTY:
                    free = True
                elif c == color and n not in seen:
                    seen.add(n)
                    todo.append(n)
        return seen, free

    def is_eye(self, at, color):
        for n in NEIGHBOURS[at]:
            if self.cells[n] != color:
                return False
        return True

    def play(self, at, color):
        """Plays a stone; False if that is not allowed."""
        if at == self.ko or self.is_eye(at, color):
            return False
        cells = self.cells
        cells[at] = color
        captured = []
        for n in NEIGHBOURS[at]:
            if cells[n] == 3 - color:
                stones, free = self.group(n)
                if not free:
                    for s in stones:
                        cells[s] = EMPTY
                        captured.append(s)
        if not captured:
            _, free = self.group(at)
            if not free:
                cells[at] = EMPTY
                return False
        self.empty.remove(at)
        self.empty.extend(captured)
        self.ko = captured[0] if len(captured) == 1 else -1
        return True


def game(random):
    board = Board()
    color, passes, moves = BLACK, 0, 0
    while passes < 2 and moves < 200:
        played = False
        for _ in range(10):
            if not board.empty:
                break
            at = board.empty[random.below(len(board.empty))]
            if board.play(at, color):
                played = True
                break
        passes = 0 if played else passes + 1
        moves += 1
        color = 3 - color
    return board.cells.count(BLACK) - board.cells.count(WHITE), moves


def main(n):
    random = Random(42)
    score = moves = 0
    for _ in range(n):
        s, m = game(random)
        score += s
        moves += m
    print(score, moves)


main(int(sys.argv[1]) if len(sys.argv) > 1 else 1200)
