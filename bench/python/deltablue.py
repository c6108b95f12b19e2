"""One-way constraints kept satisfied: chains of equality and scale constraints, planned and executed."""
import sys

REQUIRED, STRONG, NORMAL, WEAK, WEAKEST = range(5)


class Variable:
    def __init__(self, name, value=0):
        self.name, self.value = name, value
        self.constraints = []
        self.determined_by = None
        self.strength = WEAKEST
        self.mark = 0
        self.stay = True


class Constraint:
    def __init__(self, strength):
        self.strength = strength

    def add(self, planner):
        for v in self.variables():
            v.constraints.append(self)
        planner.incremental_add(self)

    def remove(self, planner):
        if self.is_satisfied():
            planner.incremental_remove(self)
        else:
            self.unlink()

    def unlink(self):
        for v in self.variables():
            if self in v.constraints:
                v.constraints.remove(self)

    def satisfy(self, mark, planner):
        self.choose(mark)
        if not self.is_satisfied():
            if self.strength == REQUIRED:
                raise ValueError("a required constraint cannot be satisfied")
            return None
        for v in self.inputs():
            v.mark = mark
        out = self.output()
        overridden = out.determined_by
        if overridden is not None:
            overridden.unsatisfy()
        out.determined_by = self
        if not planner.add_propagate(self, mark):
            raise ValueError("a cycle")
        out.mark = mark
        return overridden

    def inputs_known(self, mark):
        for v in self.inputs():
            if not (v.mark == mark or v.stay or v.determined_by is None):
                return False
        return True


class Unary(Constraint):
    is_input = False

    def __init__(self, variable, strength):
        Constraint.__init__(self, strength)
        self.variable = variable
        self.satisfied = False

    def variables(self):
        return [self.variable]

    def inputs(self):
        return ()

    def output(self):
        return self.variable

    def is_satisfied(self):
        return self.satisfied

    def unsatisfy(self):
        self.satisfied = False

    def choose(self, mark):
        self.satisfied = self.variable.mark != mark and self.strength < self.variable.strength

    def recalculate(self):
        self.variable.strength = self.strength
        self.variable.stay = not self.is_input
        if self.variable.stay:
            self.execute()

    def execute(self):
        pass


class Stay(Unary):
    pass


class Edit(Unary):
    is_input = True


class Binary(Constraint):
    is_input = False

    def __init__(self, a, b, strength):
        Constraint.__init__(self, strength)
        self.a, self.b = a, b
        self.direction = None

    def variables(self):
        return [self.a, self.b]

    def inputs(self):
        return (self.a if self.direction == "forward" else self.b,)

    def output(self):
        return self.b if self.direction == "forward" else self.a

    def is_satisfied(self):
        return self.direction is not None

    def unsatisfy(self):
        self.direction = None

    def choose(self, mark):
        a, b = self.a, self.b
        if a.mark == mark:
            self.direction = "forward" if b.mark != mark and self.strength < b.strength else None
        elif b.mark == mark:
            self.direction = "backward" if self.strength < a.strength else None
        elif a.strength > b.strength:
            self.direction = "backward" if self.strength < a.strength else None
        else:
            self.direction = "forward" if self.strength < b.strength else None

    def recalculate(self):
        source, out = self.inputs()[0], self.output()
        out.strength = max(self.strength, source.strength)
        out.stay = source.stay
        if out.stay:
            self.execute()


class Equal(Binary):
    def execute(self):
        self.output().value = self.inputs()[0].value


class Scale(Binary):
    def __init__(self, a, scale, offset, b, strength):
        self.scale, self.offset = scale, offset
        Binary.__init__(self, a, b, strength)

    def variables(self):
        return [self.a, self.b, self.scale, self.offset]

    def inputs(self):
        return (self.a if self.direction == "forward" else self.b, self.scale, self.offset)

    def execute(self):
        if self.direction == "forward":
            self.b.value = self.a.value * self.scale.value + self.offset.value
        else:
            self.a.value = (self.b.value - self.offset.value) // self.scale.value


class Planner:
    def __init__(self):
        self.mark = 0

    def new_mark(self):
        self.mark += 1
        return self.mark

    def incremental_add(self, constraint):
        mark = self.new_mark()
        while constraint is not None:
            constraint = constraint.satisfy(mark, self)

    def incremental_remove(self, constraint):
        out = constraint.output()
        constraint.unsatisfy()
        constraint.unlink()
        for other in self.remove_propagate_from(out):
            self.incremental_add(other)

    def add_propagate(self, constraint, mark):
        todo = [constraint]
        while todo:
            c = todo.pop()
            if c.output().mark == mark:
                self.incremental_remove(constraint)
                return False
            c.recalculate()
            self.consuming(c.output(), todo)
        return True

    def remove_propagate_from(self, out):
        out.determined_by = None
        out.strength = WEAKEST
        out.stay = True
        unsatisfied = []
        todo = [out]
        while todo:
            v = todo.pop()
            for c in v.constraints:
                if not c.is_satisfied():
                    unsatisfied.append(c)
            for c in v.constraints:
                if c is not v.determined_by and c.is_satisfied():
                    c.recalculate()
                    todo.append(c.output())
        unsatisfied.sort(key=lambda c: c.strength)
        return unsatisfied

    def consuming(self, variable, into):
        by = variable.determined_by
        for c in variable.constraints:
            if c is not by and c.is_satisfied():
                into.append(c)

    def plan_from(self, constraints):
        mark = self.new_mark()
        plan, todo = [], [c for c in constraints if c.is_input and c.is_satisfied()]
        while todo:
            c = todo.pop()
            if c.output().mark != mark and c.inputs_known(mark):
                plan.append(c)
                c.output().mark = mark
                self.consuming(c.output(), todo)
        return plan


def change(planner, variable, value, times):
    edit = Edit(variable, STRONG)
    edit.add(planner)
    plan = planner.plan_from([edit])
    for _ in range(times):
        variable.value = value
        for c in plan:
            c.execute()
    edit.remove(planner)


def chain(n):
    planner = Planner()
    vs = [Variable(f"v{i}") for i in range(n + 1)]
    for a, b in zip(vs, vs[1:]):
        Equal(a, b, REQUIRED).add(planner)
    Stay(vs[-1], NORMAL).add(planner)
    for i in range(20):
        change(planner, vs[0], i, 5)
        assert vs[-1].value == i, (vs[-1].value, i)
    return vs[-1].value


def projection(n):
    planner = Planner()
    scale, offset = Variable("scale", 10), Variable("offset", 1000)
    out = []
    for i in range(n):
        a, b = Variable(f"a{i}", i), Variable(f"b{i}", i)
        Stay(a, NORMAL).add(planner)
        Scale(a, scale, offset, b, REQUIRED).add(planner)
        out.append((a, b))
    change(planner, out[5][0], 17, 10)
    assert out[5][1].value == 1170, out[5][1].value
    change(planner, scale, 5, 10)
    return sum(b.value for _, b in out)


def main(n):
    total = 0
    for _ in range(n):
        total += chain(300) + projection(300)
    print(total)


main(int(sys.argv[1]) if len(sys.argv) > 1 else 75)
