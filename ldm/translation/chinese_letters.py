"""What Chinese writes and Japanese does not; and Simplified letters in Traditional ones.

Japanese without kana and Chinese share most of their letters and many words: 花, 山, 水彩画. A text
is Chinese if a letter or a word says so: 貓, 這, 紅色的, 一隻, 女孩.
"""

from __future__ import annotations

import re

# Letters that no ordinary Japanese word has although the Japanese encodings have them: forms that
# Japan gave up in 1946, and words of today's Chinese. Names may have them; --prompt_lang ja helps.
_LETTERS = (
    "个乘亂亞从仗价來們假傳價儉儿兀兇兒兩冰冲决凉劍劑勞勸匯區厂厲參听哇售喊單嚴圈國圍"
    "圓圖團埔塘增壑壓壘壞壯壽奧姆娃媽孩學它實寫寶將專對崗帶幀幢并广廚廢廣廳彈很徑從德"
    "恆惡愿應懷戀戰戲扎扮找抓抖抬拂拆拔拜拿挂插搖搜搶擇據擠擺攝攤收效敘數斷於无曉會杠"
    "杰柯档條梦榮樂樓樣橫檢櫻權歐歡歸殘殼气氛氣沒沾泛淨淺渊溪滌滿澡濕濟濱灣炫燒營爍爭"
    "牆犁犹獎獨獵獸獻瓣瓷畫當疆癢發皂盒盖盜盞盡睹瞻砌碎祕祿禮稱稻穩窗竊站箍簧簽籃粮絲"
    "經綠縣總繞繩繪繼繽續纖网罩聊聲聽肚腦腮膽臉臺與舉舊舍艙艷苟莊莓菇蔔薰藏藥蘋處號虧"
    "蝴蟲蠢衫裙裝裹襄襪襯覺觀觸謐證譯譽讀變讓豐豬賈賣賴赶趁趙跂跟跪踪蹈蹤蹲輕輛轉轎辟"
    "辭辮遞遲邊鄰醉醫釋錢鏈鐵鑰鑽閒關陷隨險隱雙雜霓靈靜靠鞦韵顏顯飄餘駛騷驅驗髓體髮鬥"
    "鬧鵐鹽麥麼黑默點黨齊齋齒龜"
)
# In Japan's list for daily use, but too new for its old encodings.
_DAILY = "𠮟剝頰塡"
_VERBS = "穿戴坐站看拿抱騎骑咬吃喝走跑飛飞睡躺望笑開开握背追牽牵提"
_NUMBER = "[0-9一二兩两三四五六七八九十幾几]"
_WORDS = re.compile(
    # A number of things: the Japanese 林檎一個 has no thing behind the number.
    rf"{_NUMBER}[隻只個朵張顆棵][\u4e00-\u9fff]|[{_VERBS}][著着]"
    # Where something is; but 存在, 在日.
    "|(?<![存現现滞潜不健自実所駐介混散点偏遍内外])在(?![日庫宅来籍住校位学職任勤留京米英仏])|的[^、。,]+的"
    "|女孩|男孩|孩子|小孩|女生|照片|水果|房子|桌子|兔子|猴子|杯子|橘子|鴨子|鞋子|裙子"
    "|(?<![天走羊])狗|香蕉|番茄|雪人|城堡|大象|章魚|企鵝|長頸|青蛙|太空|公車|巴士|火箭|吉他"
    "|足球|相機|木屋|玉米|海灘|沙灘|照相|背景是|背景為|旁邊|好看|漂亮|月亮|星星|帆船|橘色|粉紅|小小的"
    "|火車|飛機|直升|小猫|猫咪|天空中|正在|高清|請|请|没有|不要|和[一兩两三]"
)
_OF = re.compile("([0-9A-Za-z\u4e00-\u9fff]{1,4})的(?=[\u4e00-\u9fff])")

_SIMPLIFIED = (
    "红长银顶发体儿机盘裤点桥书线图镜头弹师帐记内转厨岛脉鱼鹅对并为干净无变鸡来个国灵"
    "欧荡样萝两侧传复旧动气脑话阴锅闹场块涂数间当万开泪学难层风带过计于径厅办钥拥时东"
    "独蚂条龙脚烟处鹤鸟种笔双节诗坏纸级统脸说叶着满电钟视亲觉众币马几跃较轮兽连边门闪"
    "项热雾颗汤护战争宁张构虫爷乡树装义没赛请盖围纪宝烂镇废极猫铁园温湾远锦爱兰饭云乌"
    "滨鸦鸥军车农驾鲜单汉报将筑剑楼标馆钢华广环医乐领尔属礼画员陆飞圆志伦伤许实黄饰别"
    "写欢约听术称恶猪愤怀墙里吗强贵轻简结兴鹰须麦观弃鸭现纱莲细鸽质艺摄讯码韩枪寿钻签"
    "悬浅阳烧贝凤圣帅祷宾宫龟妈尸聪与杂异盗铃缤纷灯丰脏颜们鹦鹉纯纽还庄蓝丽杰丛蜗壮梦"
    "狮毕壳购驭养读卧钓诞萨庙雏侣户绣浓伞缓优晓赶洁仓贴湿猎撑冲鸮隐蜡烛葱阅娇静拟软衬"
    "轿枫蚁饼艳滩丧折笼肤帜致猬辫铅驶庞饲骑饺渔骆绿绕榄潜婴夹筝帧篮袜颈栋驼吓飘滚这屿"
    "鲨绒诡谧骏锐萤鲸绵绘惫梁牵斓獭樱榈辆柠僵藓鲤烁盏猕铠皑绽千髅鸱炼熏苹"
)
_TRADITIONAL = (
    "紅長銀頂發體兒機盤褲點橋書線圖鏡頭彈師帳記內轉廚島脈魚鵝對並為乾淨無變雞來個國靈"
    "歐蕩樣蘿兩側傳復舊動氣腦話陰鍋鬧場塊塗數間當萬開淚學難層風帶過計於徑廳辦鑰擁時東"
    "獨螞條龍腳煙處鶴鳥種筆雙節詩壞紙級統臉說葉著滿電鐘視親覺眾幣馬幾躍較輪獸連邊門閃"
    "項熱霧顆湯護戰爭寧張構蟲爺鄉樹裝義沒賽請蓋圍紀寶爛鎮廢極貓鐵園溫灣遠錦愛蘭飯雲烏"
    "濱鴉鷗軍車農駕鮮單漢報將築劍樓標館鋼華廣環醫樂領爾屬禮畫員陸飛圓誌倫傷許實黃飾別"
    "寫歡約聽術稱惡豬憤懷牆裡嗎強貴輕簡結興鷹鬚麥觀棄鴨現紗蓮細鴿質藝攝訊碼韓槍壽鑽簽"
    "懸淺陽燒貝鳳聖帥禱賓宮龜媽屍聰與雜異盜鈴繽紛燈豐髒顏們鸚鵡純紐還莊藍麗傑叢蝸壯夢"
    "獅畢殼購馭養讀臥釣誕薩廟雛侶戶繡濃傘緩優曉趕潔倉貼濕獵撐衝鴞隱蠟燭蔥閱嬌靜擬軟襯"
    "轎楓蟻餅艷灘喪摺籠膚幟緻蝟辮鉛駛龐飼騎餃漁駱綠繞欖潛嬰夾箏幀籃襪頸棟駝嚇飄滾這嶼"
    "鯊絨詭謐駿銳螢鯨綿繪憊樑牽斕獺櫻櫚輛檸殭蘚鯉爍盞獼鎧皚綻韆髏鴟鍊薰蘋"
)
_TO_TRADITIONAL = str.maketrans(_SIMPLIFIED, _TRADITIONAL)


def traditional(text: str) -> str:
    """Return a text with the Simplified letters of the project's own words as Traditional ones.

    A letter that stands for several becomes the most common of them.

    Example:
        >>> traditional("红色的猫")
        '紅色的貓'
    """
    return text.translate(_TO_TRADITIONAL)


def writes_chinese(text: str) -> bool:
    """Return whether a text without kana has what Chinese writes and Japanese does not.

    Args:
        text: After NFKC.

    Example:
        >>> [writes_chinese(text) for text in ("紅色背景的貓", "花", "幻想的風景", "红花")]
        [True, False, False, True]
    """
    return any(map(_is_chinese, text)) or bool(_WORDS.search(text)) or _has_particle(text)


def _is_chinese(letter: str) -> bool:
    if letter in _LETTERS:
        return True
    if not "\u4e00" <= letter <= "\u9fff" or letter in _DAILY:
        return False
    try:
        letter.encode("cp932")  # the letters of Japan's industrial standard of 1983, and IBM's
    except UnicodeEncodeError:
        return True
    return False


def _has_particle(text: str) -> bool:
    """Return whether a 的 joins words: 紅色的花. In Japanese it makes adjectives: 幻想的風景."""
    from ldm.translation.lexicon import dictionary  # no other text needs it to be told

    for found in _OF.finditer(text):
        front = found[1]
        ends = (front[at:] for at in range(len(front)))
        if not any(f"{end}的" in dictionary() for end in ends):
            return True
    return False
