/* An extension module that goes wrong: crash.now(how). */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile int sink;

#pragma GCC diagnostic ignored "-Winfinite-recursion"

static int deep(volatile int n)
{
    volatile char block[4096];
    block[n % 4096] = (char)n;
    return deep(n + 1) + block[n % 4096];
}

static void called_back(int number)
{
    (void)number;
    _exit(42);
}

static PyObject *now(PyObject *self, PyObject *args)
{
    const char *how;
    (void)self;
    if (!PyArg_ParseTuple(args, "s", &how))
        return NULL;
    if (!strcmp(how, "null"))
        sink = *(volatile int *)NULL;
    else if (!strcmp(how, "jump"))
        ((void (*)(void))0)();
    else if (!strcmp(how, "divide"))
        raise(SIGFPE);
    else if (!strcmp(how, "illegal"))
        __asm__ volatile("ud2");
    else if (!strcmp(how, "trap"))
        __asm__ volatile("int3");
    else if (!strcmp(how, "deep"))
        sink = deep(0);
    else if (!strcmp(how, "abort"))
        abort();
    else if (!strcmp(how, "exit"))
        exit(9);
    else if (!strcmp(how, "quick"))
        quick_exit(11);
    else if (!strcmp(how, "fatal"))
        Py_FatalError("as asked");
    else if (!strcmp(how, "handled")) {
        signal(SIGSEGV, called_back);
        sink = *(volatile int *)NULL;
    } else if (!strcmp(how, "no error"))
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"now", now, METH_VARARGS, "crash"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "crash", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_crash(void)
{
    return PyModule_Create(&module);
}
