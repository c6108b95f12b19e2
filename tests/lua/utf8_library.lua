-- The utf8 library over text of all lengths, and over broken text.
local text = ("aé€😀z"):rep(100)
local n, sum = 0, 0
for p, c in utf8.codes(text) do n = n + 1; sum = (sum * 31 + p + c) % 1000003 end
print(n, sum, #text, utf8.len(text))
local back = {}
for _, c in utf8.codes("häß€𝄞") do back[#back + 1] = utf8.char(c) end
print(table.concat(back, "|"))
for i = 1, 500, 83 do print(i, utf8.offset(text, i), utf8.codepoint(text, utf8.offset(text, i))) end
print(utf8.char(72, 228, 8364, 128512, 0x7FFFFFFF):byte(1, -1))
print(utf8.len("\xff"), utf8.len("ab\x80cd"), utf8.len("\u{D7FF}"), utf8.len("\xed\xa0\x80"), utf8.len("\xed\xa0\x80", 1, -1, true))
print(pcall(utf8.codepoint, "\xff"))
print(pcall(function() for _ in utf8.codes("ab\xff") do end end))
print(pcall(utf8.char, -1))
print(utf8.offset("aé€", -1), utf8.offset("aé€", 0, 3), utf8.offset("abc", 5), utf8.charpattern == "[\0-\x7F\xC2-\xFD][\x80-\xBF]*")
local count = 0
for c in text:gmatch(utf8.charpattern) do if #c > 1 then count = count + 1 end end
print(count)
local total = 0
for i = 1, 3000 do total = total + #utf8.char(i * 37) + utf8.codepoint(utf8.char(i)) end
print(total)
